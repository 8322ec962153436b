// A photo in, the best labels out: MediaPipe Tasks with a model that Graft exported.
//
// Labels and scaling are inside the model's file; how a photo is fitted to the model's images, manifest.json says.

import MediaPipeTasksVision
import UIKit

/// A label and how sure the model is of it, 0 to 1.
struct Label {
    let name: String
    let score: Float
}

enum PhotoClassifierError: Error {
    case noFile(String)
    case badManifest(String)
}

/// How a photo of other proportions is fitted; `preprocessing.fit` of manifest.json.
private enum Fit: String {
    case stretch, crop, pad

    /// An older Graft knew nothing but stretching, and did not say it.
    init(manifest: Data) throws {
        let content = try JSONSerialization.jsonObject(with: manifest) as? [String: Any]
        let name = (content?["preprocessing"] as? [String: Any])?["fit"] as? String ?? Fit.stretch.rawValue
        guard let fit = Fit(rawValue: name) else {
            throw PhotoClassifierError.badManifest("the fit \(name) is not known here")
        }
        self = fit
    }
}

/// Height and width of the model's images. MediaPipe takes RGB alone, and refuses other models as it opens them.
private func modelSides(manifest: Data) throws -> CGSize {
    let content = try JSONSerialization.jsonObject(with: manifest) as? [String: Any]
    let input = (content?["inputs"] as? [[String: Any]])?.first
    // batch, height, width, channels
    guard let shape = input?["shape"] as? [Any], shape.count == 4, let height = shape[1] as? Int, let width = shape[2] as? Int
    else {
        throw PhotoClassifierError.badManifest("it does not say the size of the model's images")
    }
    return CGSize(width: width, height: height)
}

final class PhotoClassifier {
    private let classifier: ImageClassifier
    private let fit: Fit
    private let sides: CGSize

    /// `name`: of the .tflite file in `bundle`; `manifest`: of the .json file there.
    init(name: String = "model", manifest: String = "manifest", bundle: Bundle = .main, most: Int = 3) throws {
        guard let path = bundle.path(forResource: name, ofType: "tflite") else {
            throw PhotoClassifierError.noFile("\(name).tflite is not in the app: add it to the target")
        }
        guard let described = bundle.url(forResource: manifest, withExtension: "json") else {
            throw PhotoClassifierError.noFile("\(manifest).json is not in the app: add it to the target")
        }
        let content = try Data(contentsOf: described)
        fit = try Fit(manifest: content)
        sides = try modelSides(manifest: content)
        let options = ImageClassifierOptions()
        options.baseOptions.modelAssetPath = path
        options.runningMode = .image
        options.maxResults = most
        classifier = try ImageClassifier(options: options)
    }

    /// The best labels of `photo`, the surest first. Takes milliseconds: call it off the main thread.
    func labels(of photo: UIImage) throws -> [Label] {
        let result: ImageClassifierResult
        switch fit {
        case .stretch:
            result = try classifier.classify(image: MPImage(uiImage: photo))
        case .crop:
            let upright = drawn(photo, on: pixels(of: photo))
            let region = centre(of: pixels(of: photo), as: sides)
            result = try classifier.classify(image: MPImage(uiImage: upright), regionOfInterest: region)
        case .pad:
            // MediaPipe has no padding of its own: the photo is drawn on grey of the model's proportions, which is then
            // stretched.
            let whole = drawn(photo, on: padded(pixels(of: photo), as: sides))
            result = try classifier.classify(image: MPImage(uiImage: whole))
        }
        let categories = result.classificationResult.classifications.first?.categories ?? []
        return categories.map { Label(name: $0.categoryName ?? "", score: $0.score) }
    }
}

private func pixels(of photo: UIImage) -> CGSize {
    CGSize(width: (photo.size.width * photo.scale).rounded(), height: (photo.size.height * photo.scale).rounded())
}

private func inProportion(_ length: CGFloat, _ part: CGFloat, _ whole: CGFloat) -> CGFloat {
    max(1, (length * part / whole).rounded(.toNearestOrAwayFromZero))
}

private func isWide(_ size: CGSize, _ sides: CGSize) -> Bool {
    size.width * sides.height >= size.height * sides.width
}

/// The largest centred part of an upright photo that has the model's proportions: a region of interest, in shares of width
/// and height.
private func centre(of size: CGSize, as sides: CGSize) -> CGRect {
    let wide = isWide(size, sides)
    let width = wide ? inProportion(size.height, sides.width, sides.height) : size.width
    let height = wide ? size.height : inProportion(size.width, sides.height, sides.width)
    let left = ((size.width - width) / 2).rounded(.down)
    let top = ((size.height - height) / 2).rounded(.down)
    return CGRect(x: left / size.width, y: top / size.height, width: width / size.width, height: height / size.height)
}

/// The smallest size of the model's proportions that holds all of a photo.
private func padded(_ size: CGSize, as sides: CGSize) -> CGSize {
    isWide(size, sides)
        ? CGSize(width: size.width, height: inProportion(size.width, sides.height, sides.width))
        : CGSize(width: inProportion(size.height, sides.width, sides.height), height: size.height)
}

/// `photo`, upright, in the middle of a grey canvas of so many pixels.
private func drawn(_ photo: UIImage, on canvas: CGSize) -> UIImage {
    let format = UIGraphicsImageRendererFormat()
    format.scale = 1
    format.opaque = true
    return UIGraphicsImageRenderer(size: canvas, format: format).image { context in
        UIColor(red: 128 / 255, green: 128 / 255, blue: 128 / 255, alpha: 1).setFill() // around a padded photo
        context.fill(CGRect(origin: .zero, size: canvas))
        let size = pixels(of: photo)
        let left = ((canvas.width - size.width) / 2).rounded(.down)
        let top = ((canvas.height - size.height) / 2).rounded(.down)
        let place = CGRect(origin: CGPoint(x: left, y: top), size: size)
        UIColor.white.setFill() // behind transparent pixels
        context.fill(place)
        photo.draw(in: place)
    }
}
